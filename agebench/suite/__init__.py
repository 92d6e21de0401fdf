"""Suites: many models on many data sets, and the leaderboard that is made of their results."""
