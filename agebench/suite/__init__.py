"""Suites: many models on many data sets, and the leaderboard made from their results."""
