"""What is wrong with images and masks, in words."""
