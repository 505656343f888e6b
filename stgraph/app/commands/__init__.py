"""The commands of the command line, one file each; every command imports what it needs when it runs."""
