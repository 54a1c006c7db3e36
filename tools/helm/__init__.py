"""Helm 3 and Helm 4, built from source for the tests of the chart."""
