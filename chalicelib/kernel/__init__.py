"""What several systems need, and knows none of them: settings, errors, JSON, HTTP, keys, tables, objects, flows, chain."""
