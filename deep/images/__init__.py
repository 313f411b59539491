"""Image data: archives, augmentation, minibatches."""
