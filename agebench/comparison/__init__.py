"""What `import agebench` offers for comparisons: the call, and a result that shows itself."""
