"""What people look at: colours, overlays, figures, one page a run."""
