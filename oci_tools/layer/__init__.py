"""File trees and the layer archives they are made of."""
