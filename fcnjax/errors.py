"""What is told to the user in one line."""


class InputError(ValueError):
  """The user's input is wrong: a path, a file, a mask, a config word.

  The message is one line that says what was got, what was expected and what
  to do. The commands print it and exit with code 2; nothing was overwritten.
  """
