"""The vocabulary: values every other room speaks in. No behaviour beyond arithmetic on them."""
