"""Ordinary differential equations as parts of networks: solvers, and gradients through them."""
