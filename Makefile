PYTHON ?= python3

# Each target installs what it needs and then runs; ARGS goes to the command.
.PHONY: run test check docs bench mutate setup
run test check docs bench mutate setup:
	@$(PYTHON) local/bootstrap.py $@ $(ARGS)

# A stage on AWS, with the credentials and the region of the AWS tools: docs/deploy.md.
.PHONY: plan deploy finish smoke pause resume restore destroy package image
plan deploy finish smoke pause resume restore destroy package image:
	@$(PYTHON) local/bootstrap.py $@ --stage $(or $(STAGE),$(error say which stage: make $@ STAGE=dev)) $(ARGS)
