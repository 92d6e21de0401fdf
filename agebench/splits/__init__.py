"""Which picture is trained on and which is scored."""
