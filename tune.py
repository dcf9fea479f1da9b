"""python tune.py … is the command pregao tune …."""

from pregao.cli.tune import main

if __name__ == "__main__":
    main()
