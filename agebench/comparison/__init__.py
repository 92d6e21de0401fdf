"""The public interface of comparisons: `compare`, and a result that displays itself."""
