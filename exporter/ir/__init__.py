"""The graph: values, nodes, op vocabulary, quantisation parameters, checker, interpreter, text dump."""
