"""What is shipped: kernel cache, image, units, rules, configuration and documents."""
