"""Training: losses, window batches on the device, the one training step, the trainer."""
