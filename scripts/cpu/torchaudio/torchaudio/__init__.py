"""Empty on purpose: LLaMA-Factory imports this name; text never uses it (see requirements-cpu.txt)."""
