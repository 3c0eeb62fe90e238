"""Predicts, scores and reports: knows the files under data/, and nothing of where they came from."""
