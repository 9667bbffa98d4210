"""Tests of the connected side; none needs a network."""
