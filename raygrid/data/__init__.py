"""Raw images in: data sets, phantoms, image files and splits."""
