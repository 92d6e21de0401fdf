"""From files to pixels, from pixels to canonical frames and crops."""
