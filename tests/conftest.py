"""Tests work in temporary folders: the project's folder is the working folder, also for child processes."""

import os
import signal

os.environ["SOCRATES_HOME"] = "."
# A shell that starts the tests in the background ignores SIGINT for them, and for all that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)
