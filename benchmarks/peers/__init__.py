"""Other frameworks, each in an environment of its own, doing the job that Remit does."""
