"""Makes data sets and starts training: one file a step, each a command line."""
