"""python train.py … is the command pregao train …."""

from pregao.cli.train import main

if __name__ == "__main__":
    main()
