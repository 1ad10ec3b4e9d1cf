"""What a frozen encoder makes of images, kept on disk. No training."""
