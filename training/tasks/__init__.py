"""The tasks a language model is tuned on: what they read, what they answer, how they are mixed."""
