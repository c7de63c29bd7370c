"""What several systems need: settings, errors, JSON, HTTP, keys, tables, objects, flows, chain. Knows no system."""
