"""How strong the models are whose answers the votes compare: Bradley-Terry ratings."""
