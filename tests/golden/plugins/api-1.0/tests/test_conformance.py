from shapewright.testing import conformance

test_representation = conformance("representation/tetrahedral")
test_extractor = conformance("extractor/marching-tetrahedra")
