"""The laptop: environments, the embedded cloud, the gateway and the server that ties them together.

Nothing that is deployed imports from here.
"""
