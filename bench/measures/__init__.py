"""The measures, one module for each idea; ``catalogue`` lists them in the order of the report."""
