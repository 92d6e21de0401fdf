"""Parameters fitted on pictures: years of age classes, and proportions of a detector's boxes."""
