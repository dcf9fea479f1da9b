"""python serve.py … is the command pregao serve …."""

from pregao.cli.serve import main

if __name__ == "__main__":
    main()
