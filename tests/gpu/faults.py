"""The one error of the interpreters: a program did what a GPU would not forgive, or what nobody taught them."""


class Fault(Exception):
    """A kernel's text is wrong, or does something that the interpreter does not know. The message names the line."""
