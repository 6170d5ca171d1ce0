"""What is measured: confusion matrices and boundaries."""
