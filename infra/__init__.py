"""What stands around the functions: tables, buckets, schedules, roles, alarms, and how to put it up."""
