"""Runs strangers' projects and measures them: `judge` asks and computes, `sandbox` confines, `guest` is what is inside.

Everything but the guest is the standard library alone. On the laptop the sandbox is bubblewrap; in the cloud it is a
function of its own, with no route out and a role that allows nothing, in which each run is a fresh process.
"""
