"""Tests work in temporary folders: the project's folder is the working folder, also for child processes."""

import os

os.environ["SOCRATES_HOME"] = "."
