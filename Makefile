# SPDX-License-Identifier: GPL-2.0
#
# The commands of ferrofs. The kernel part is built by Kbuild, beside this file; what happens here is done by the
# programs of tools/, which can also be called directly.

CLONE := $(patsubst %/,%,$(dir $(abspath $(lastword $(MAKEFILE_LIST)))))
TOOLS := $(CLONE)/tools

# A prepared kernel tree to build against instead of the stock kernel's that set-up makes.
KDIR ?=
module := $(TOOLS)/build-module $(if $(KDIR),--kdir '$(KDIR)')
# What the user gave for kbuild is passed on to it.
passed := $(foreach v,V W CLIPPY,$(if $($(v)),$(v)=$($(v))))

.DEFAULT_GOAL := modules
.PHONY: modules modules_install clean distclean help setup shell run test

modules: ## build ferrofs.ko (KDIR=TREE: against that prepared kernel tree)
	@$(module) modules $(passed)

modules_install: modules ## install it below INSTALL_MOD_PATH (default /) for the kernel that it was built for
	@$(TOOLS)/install-module $(if $(KDIR),'$(KDIR)')

clean: ## delete what was built in this clone
	@$(TOOLS)/clean

distclean: clean ## delete set-up's cache too: the next build starts from nothing
	@$(TOOLS)/clean --cache

setup: ## make or mend everything that building and testing needs (UPDATE=1: look for a newer kernel)
	@$(TOOLS)/setup $(if $(UPDATE),--update) all

shell: ## an interactive guest with both disks formatted and mounted (KERNEL=debug: the debug kernel)
	@$(TOOLS)/shell $(if $(KERNEL),--kernel $(KERNEL))

run: ## the main job, shown from end to end on an NVMe and a SATA disk
	@$(TOOLS)/testing/demo

test: ## all tests (tools/testing/run NAME runs one)
	@$(TOOLS)/testing/run

help: ## this list
	@echo 'Targets:'
	@sed -n 's/^\([a-z_]*\):.*## \(.*\)/  \1|\2/p' $(CLONE)/Makefile | \
		while IFS='|' read -r target text; do printf '%-18s %s\n' "$$target" "$$text"; done
	@echo
	@echo 'tools/vm --help, tools/testing/run --help and tools/build-module --help tell more.'
