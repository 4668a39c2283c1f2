"""A run: observe the target, judge the observations, keep the results."""
