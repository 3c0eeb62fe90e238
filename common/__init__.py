"""What `scripts` and `eval` must agree on to the byte: prompts, answer scales, paths and safe files.

The two packages never import one another; the files under `data/` are their only bond. These few
definitions stand here because a second copy that drifts would silently break that bond.
"""
