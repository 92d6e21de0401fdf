"""`agebench prepare`: from a data set to a folder of crops by age group, with a manifest."""
