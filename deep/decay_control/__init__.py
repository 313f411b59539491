"""Entropy or weight decay? A controlled comparison of SGD with the entropic algorithms."""
