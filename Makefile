# Short names for the commands of run.py.
PYTHON ?= python3

.PHONY: demo test serve

demo:
	@$(PYTHON) run.py demo

test:
	@$(PYTHON) run.py test $(ARGS)

serve:
	@$(PYTHON) run.py serve $(ARGS)
