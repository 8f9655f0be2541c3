"""One vector per catalogue item, made from what the item says about itself."""
