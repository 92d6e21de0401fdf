"""From pictures, folders and videos to faces with ages."""
