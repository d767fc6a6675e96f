"""One suite a family; each test is a rule, and its docstring the sentence."""
