"""`subnetctl`: the command line of operators, miners and validators."""
