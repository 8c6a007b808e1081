"""The composition root: settings, processes, problem documents. The only package that knows all the others."""
