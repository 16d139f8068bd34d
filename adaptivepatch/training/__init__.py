"""Training: losses, batches of windows on the device, the training step and the trainer."""
