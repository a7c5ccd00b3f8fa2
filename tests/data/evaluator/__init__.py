"""Operators of convolutional networks with their relevance rules and gradients, in float64 numpy."""
